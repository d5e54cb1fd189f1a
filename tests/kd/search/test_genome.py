"""Genomes as JSON: what comes back, and everything that is refused."""

import json
import math
import pickle

import pytest

from wsi_kd.core.errors import BadInput
from wsi_kd.kd.search.genome import Genome

FULL = Genome(("block.2", "layer4"), ("norm_c", "abs"), "smooth_l1", 0.3, 2.0)


@pytest.mark.parametrize("genome", [Genome(), FULL])
def test_a_genome_comes_back(genome):
    text = json.dumps(genome.to_json(), allow_nan=False)

    assert Genome.of_json(json.loads(text)) == genome
    assert pickle.loads(pickle.dumps(genome)) == genome


def test_the_json_form_is_plain():
    assert FULL.to_json() == {
        "schema": 1,
        "layers": ["block.2", "layer4"],
        "transforms": ["norm_c", "abs"],
        "distance": "smooth_l1",
        "weight": 0.3,
        "temperature": 2.0,
    }
    assert FULL.told == "0.3 x smooth_l1(abs(norm_c(block.2 | layer4)), T=2)"


def test_keys_tell_genomes_apart():
    others = [
        FULL,
        FULL._replace(layers=None),
        FULL._replace(transforms=("abs", "norm_c")),
        FULL._replace(distance="l1"),
        FULL._replace(weight=1.0),
        FULL._replace(temperature=1.0),
    ]

    assert len({genome.key for genome in others}) == 6
    assert Genome.of_json({**FULL.to_json(), "weight": 3, "temperature": 2}).weight == 3.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"schema": 2}, "g: schema is 2; expected 1"),
        ({"transforms": ["abs"] * 3}, "g: 3 transforms; expected at most 2"),
        ({"transforms": "abs"}, "g: transforms: found 'abs'; expected names"),
        ({"transforms": [1]}, r"g: transforms: found \[1\]; expected names"),
        ({"layers": ["a"]}, r"g: layers: found \['a'\]; expected the student's layer and the teacher's"),
        ({"layers": "ab"}, "g: layers: found 'ab'; expected names"),
        ({"distance": ""}, "g: distance: found"),
        ({"weight": 0}, "g: weight: found 0; expected a number above 0"),
        ({"weight": True}, "g: weight: found True; expected a number above 0"),
        ({"weight": math.inf}, "g: weight: found inf"),
        ({"temperature": math.nan}, "g: temperature: found nan"),
        ({"temperature": "4"}, "g: temperature: found '4'"),
        ({"wieght": 1.0}, r"its keys must be distance, .* \(missing: none; unknown: wieght\)"),
    ],
)
def test_another_form_is_refused(changed, said):
    with pytest.raises(BadInput, match=said):
        Genome.of_json({**FULL.to_json(), **changed}, where="g")


@pytest.mark.parametrize("name", ["layers", "transforms", "distance", "weight", "temperature"])
def test_a_missing_key_is_refused(name):
    value = FULL.to_json()
    del value[name]
    with pytest.raises(BadInput, match=rf"\(missing: {name}; unknown: none\)"):
        Genome.of_json(value)
