"""Command group config: the settings file at its defaults, its schema, and that of the answers."""

import sys

import typer

config_app = typer.Typer(help="Print the settings file (every default, commented) or its JSON schema.")


@config_app.command("default")
def config_default() -> None:
    """Print configs/default.yaml: every setting with its description."""
    from wsi_kd.settings.document import default_yaml

    sys.stdout.write(default_yaml())


@config_app.command("schema")
def config_schema() -> None:
    """Print configs/schema.json, with which editors complete and check the settings file."""
    from wsi_kd.settings.document import schema_json

    sys.stdout.write(schema_json())


@config_app.command("distill-schema")
def config_distill_schema() -> None:
    """Print configs/kd/schema.json, which does the same for the files of `wsi-kd distill`."""
    from wsi_kd.settings.document import distill_schema_json

    sys.stdout.write(distill_schema_json())


@config_app.command("prediction-schema")
def config_prediction_schema() -> None:
    """Print docs/schemas/prediction.schema.json: the structure of the prediction.json that infer writes."""
    from wsi_kd.inference.prediction_schema import prediction_schema_json

    sys.stdout.write(prediction_schema_json())


@config_app.command("reporting-schema")
def config_reporting_schema() -> None:
    """Print docs/schemas/reporting_items.schema.json: the structure of the report's reporting_items.json."""
    from wsi_kd.core.json_schema import schema_text
    from wsi_kd.report.reporting_schema import reporting_schema

    sys.stdout.write(schema_text(reporting_schema()))
