"""Command group config: the settings file at its defaults, and its schema."""

import sys

import typer

from wsi_kd.settings.document import default_yaml, distill_schema_json, schema_json

config_app = typer.Typer(help="Print the settings file (every default, commented) or its JSON schema.")


@config_app.command("default")
def config_default() -> None:
    """Print configs/default.yaml: every setting with its description."""
    sys.stdout.write(default_yaml())


@config_app.command("schema")
def config_schema() -> None:
    """Print configs/schema.json, with which editors complete and check the settings file."""
    sys.stdout.write(schema_json())


@config_app.command("distill-schema")
def config_distill_schema() -> None:
    """Print configs/kd/schema.json, which does the same for the files of `wsi-kd distill`."""
    sys.stdout.write(distill_schema_json())
