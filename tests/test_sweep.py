"""Sweeps: lists of values made into arms, each made once, resumed at the arm, and told in the verdict."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import sum_rows, write_rows
from support.tiny import tiny_model

from selfdistill import make_recipe, run
from selfdistill.errors import RecipeError
from selfdistill.pipeline.context import Context, make_context
from selfdistill.pipeline.stages import stages_of
from selfdistill.recipe import load_recipe, save_recipe

TRAIN = {"max_steps": 1, "batch_size": 4, "micro_batch_size": 4, "max_length": 256}


def plan_of(sweep: Any, overrides: tuple[str, ...] = (), **changes: Any) -> Context:
    return make_context(make_recipe({"model": "m", "data": "d.jsonl", "sweep": sweep, **changes}, overrides))


def points(plan: Context) -> list[tuple[Any, ...]]:
    return [(point.parameter, point.series, point.value, point.arm) for point in plan.points]


def test_each_trained_arm_has_each_value() -> None:
    plan = plan_of({"n": [500, 1000], "train.lr": ["2e-5", 1e-4], "train": {"adapter": {"r": [64]}}})
    assert list(plan.recipe.arms) == [
        "seed", "vanilla", "sdft",
        "vanilla.n=500", "vanilla.n=1000", "sdft.n=500", "sdft.n=1000",
        "vanilla.train.lr=2e-05", "sdft.train.lr=2e-05",
        "vanilla.train.adapter.r=64", "sdft.train.adapter.r=64",
    ]  # fmt: skip
    assert ("train.lr", "sdft", 1e-4, "sdft") in points(plan)  # what the arm has anyway is the arm
    assert ("n", "vanilla", 500, "vanilla.n=500") in points(plan)
    arms = plan.recipe.arms
    assert plan.recipe.arm_train(arms["sdft.train.adapter.r=64"]).adapter.r == 64
    assert plan.recipe.arm_train(arms["sdft.train.adapter.r=64"]).adapter.alpha == 16
    assert [plan.baseline_arm(arm) for arm in arms if arm.startswith("sdft")] == [
        arm.replace("sdft", "vanilla") for arm in arms if arm.startswith("sdft")
    ]


def test_a_mix_of_0_is_vanilla_and_of_1_sdft() -> None:
    plan = plan_of({"mix": [0, 0.25, 0.5, 1]})
    assert list(plan.recipe.arms) == ["seed", "vanilla", "sdft", "mix=0.25", "mix=0.5"]
    assert [arm for *_, arm in points(plan)] == ["vanilla", "mix=0.25", "mix=0.5", "sdft"]
    assert {series for _, series, *_ in points(plan)} == {"mix"}
    assert plan.baseline_arm("mix=0.25") == "vanilla"
    alone = plan_of({"mix": [0, 1]}, arms={"seed": {"data": "none"}})
    assert list(alone.recipe.arms) == ["seed", "mix=0", "mix=1"]


def test_all_the_rows_there_are_is_the_arm_itself() -> None:
    plan = plan_of({"n": [500, 2000]}, ("data.n=2000",))
    assert [arm for *_, arm in points(plan)] == ["vanilla.n=500", "vanilla", "sdft.n=500", "sdft"]
    of_task = make_context(make_recipe({"model": "m", "task": "magicoder", "sweep": {"n": [2000]}}))
    assert [arm for *_, arm in points(of_task)] == ["vanilla", "sdft"]
    with pytest.raises(RecipeError, match=r"sweep.n: 3000 rows are more than data.n = 2000"):
        plan_of({"n": [3000]}, ("data.n=2000",))


def test_a_template_has_rewrites_of_its_own_and_the_recipes_own_stay_where_they_are() -> None:
    using = {"template": "using"}
    plan = plan_of({"template": ["using", "refer"]}, rewrite=using)
    assert [arm for *_, arm in points(plan)] == ["sdft", "sdft.template=refer"]
    assert plan.baseline_arm("sdft.template=refer") == "vanilla"
    stages = {stage.name: stage for stage in stages_of(plan)}
    own, other = (stages[f"train/{arm}"].inputs[1] for arm in ("sdft", "sdft.template=refer"))
    assert own.output == "rewrite/rewrites.jsonl"
    assert other.output == "rewrite/refer/rewrites.jsonl"
    assert own == {stage.name: stage for stage in stages_of(plan_of({}, rewrite=using))}["verify"]


def test_arms_that_set_the_parameter_themselves_and_interpolated_ones_are_not_swept() -> None:
    arms = {
        "seed": {"data": "none"}, "vanilla": {"data": "original"},
        "low": {"data": "original", "train": {"lr": 1e-5}},
        "half": {"data": "interpolate", "of": "vanilla", "alpha": 0.5},
    }  # fmt: skip
    assert [series for _, series, *_ in points(plan_of({"train.lr": [2e-5]}, arms=arms))] == ["vanilla"]
    found = points(plan_of({"train.lr": [1e-5]}, arms=arms))
    assert found == [("train.lr", "vanilla", 1e-5, "low")]  # made already, under another name
    with pytest.raises(RecipeError, match=r"sweep.template: there is no arm to sweep"):
        plan_of({"template": ["refer"]}, arms=arms)


def test_seeds_multiply_the_points_runs() -> None:
    plan = plan_of({"mix": [0.5]}, seeds=[0, 1])
    assert [run.name for run in plan.runs_of("mix=0.5")] == ["mix=0.5", "mix=0.5@1"]
    assert plan.runs["mix=0.5@1"].train.seed == 1


def test_seeds_that_come_later_change_no_stage_that_is_done() -> None:
    """A run's name and fingerprints depend on its own seed alone."""

    def stages(**settings: Any) -> dict[str, str]:
        return {stage.name: stage.fingerprint for stage in stages_of(plan_of({}, **settings))}

    alone, with_seed = stages(), stages(seeds=[0])
    assert alone == with_seed
    several = stages(seeds=[0, 1])
    assert alone.items() < several.items()
    assert several == stages(seeds=[1, 0])
    assert several.items() < stages(seeds=[2, 1, 0]).items()
    assert stages(seeds=[1]).items() < several.items()
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "sdft": {"data": "rewrites"}}
    assert several.items() < stages(seeds=[0, 1], arms={**arms, "half": {"data": 0.5}}).items()
    assert plan_of({}, seeds=[3], train={"seed": 3}).runs.keys() == {"seed", "vanilla", "sdft"}


def test_names_are_safe_as_file_names(tmp_path: Path) -> None:
    template = tmp_path / "my words.txt"
    template.write_text("{instruction} {reference}")
    plan = plan_of({
        "template": [str(template)], "train.adapter.targets": [["q_proj"], "all-linear"],
        "train.epochs": [3.0], "train.max_steps": [7, None], "train.extra.label_smoothing_factor": [0.1],
    })  # fmt: skip
    assert {arm.partition(".")[2] for arm in plan.recipe.arms if arm.startswith("sdft.")} == {
        "template=my-words", "train.adapter.targets=q_proj", "train.adapter.targets=all-linear", "train.epochs=3",
        "train.max_steps=7", "train.extra.label_smoothing_factor=0.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"lr": [1e-5]}, r"there is no parameter lr; did you mean train.lr\?"),
        ({"train.lrr": [1e-5]}, r"did you mean train.lr\?"),
        ({"teplate": ["refer"]}, r"did you mean template\?"),
        ({"alpha": [1]}, r"did you mean train.adapter.alpha\?"),
        ({"zzz": [1]}, "choose n, mix, template"),
        ({"seeds": [0, 1]}, r"write `seeds: \[0, 1, 2\]`"),
        ({"train.micro_batch_size": [1, 2]}, "changes how the weights are reached, not which"),
        ({"n": 500}, r"n needs a list of values"),
        ({"n": []}, r"n needs a list of values"),
        ({"n": [0]}, r"sweep.n: 0 is not usable \(input should be greater than 0\)"),
        ({"n": [None]}, "sweep.n holds an empty value"),
        ({"n": [{"a": 1}]}, "sweep.n: .* is not usable"),
        ({"mix": [1.5]}, "a mix ratio between 0 and 1, not 1.5"),
        ({"mix": ["rewrites"]}, "sweep.mix: 'rewrites' is not a ratio"),
        ({"template": ["usin"]}, "no rewriting template 'usin'"),
        ({"train.lr": [-1]}, "sweep.train.lr: -1 is not usable"),
        ({"train.batch_size": [7]}, "batch_size 7 is not a multiple"),
        ({"train.method": ["lorra"]}, "sweep.train.method: 'lorra' is not usable"),
        ([1], "sweep needs a list of values"),
    ],
)
def test_mistakes_are_named(sweep: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        stages_of(plan_of(sweep))
    assert "\n" not in str(error.value)


def test_an_arm_that_has_a_points_name_and_is_another_is_refused() -> None:
    arms = {"seed": {"data": "none"}, "vanilla": {"data": "original"}, "vanilla.n=5": {"data": "original", "n": 6}}
    with pytest.raises(RecipeError, match=r"there is another arm vanilla.n=5 already"):
        plan_of({"n": [5]}, arms=arms)


def test_a_sweep_is_saved_as_it_was_written(tmp_path: Path) -> None:
    recipe = make_recipe({"model": "m", "data": "d"}, ["sweep.train.lr=[2e-5, 1e-3]", "sweep.mix=[0.5]"])
    (tmp_path / "recipe.yaml").write_text(save_recipe(recipe))
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    assert list(again.arms) == ["seed", "vanilla", "sdft"]
    assert make_context(again).points == make_context(recipe).points
    assert len(make_context(make_recipe({"model": "m", "data": "d"})).points) == 0


@given(st.lists(st.floats(1e-8, 1) | st.integers(1, 9), min_size=1), st.lists(st.floats(0, 1), min_size=1))
def test_every_value_is_one_arm_whose_name_tells_it_apart(rates: list[float], ratios: list[float]) -> None:
    plan = plan_of({"train.lr": rates, "mix": ratios})
    lines = {(point.series, point.value): point.arm for point in plan.points}
    assert {value for series, value in lines if series == "sdft"} == {float(rate) for rate in rates}
    assert {value for series, value in lines if series == "mix"} == set(ratios)
    for (series, value), arm in lines.items():
        its = plan.recipe.arms[arm]
        held = {"original": 0.0, "rewrites": 1.0}.get(str(its.data), its.data)
        assert held == value if series == "mix" else plan.recipe.arm_train(its).lr == value


# ---- run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def swept(model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    rows = write_rows(folder / "rows.jsonl", sum_rows(30))
    return {
        "model": {"path": str(model), "dtype": "float32"},
        "data": {"path": str(rows), "heldout": 6},
        "rewrite": {"backend": "fake", "grader": "final_number", "filters": {"min_length_ratio": None}},
        "train": TRAIN,
        "evaluate": {"backend": "fake", "tasks": ["heldout"]},
        "gap": False,
        **changes,
    }


def test_a_sweep_runs_nested_and_goes_on_at_the_arm(model: Path, tmp_path: Path) -> None:
    values = swept(model, tmp_path, sweep={"n": [4, 8], "mix": [0, 0.5], "template": ["refer"]})
    where = tmp_path / "run"
    part = {**values, "sweep": {"n": [4]}}
    run(make_recipe(part), where)
    before = {path: path.stat().st_mtime_ns for path in where.glob("arms/*/model/*.safetensors")}
    assert {path.parts[-3] for path in before} == {"vanilla", "sdft", "vanilla.n=4", "sdft.n=4"}

    # Stopped in an arm: what is trained stays, the rest is done.
    told: list[str] = []

    def stop(label: str, done: int, total: int, note: str = "") -> None:
        told.append(label)
        if label == "train sdft.n=8":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make_recipe(values), where, stop)
    assert "train vanilla.n=4" not in told
    assert (where / "arms" / "vanilla.n=8" / "train.json").is_file()
    told.clear()
    verdict = run(make_recipe(values), where, lambda label, *_: told.append(label))
    assert {label for label in told if label.startswith("train ")} == {
        f"train {arm}" for arm in ("sdft.n=8", "mix=0.5", "sdft.template=refer")
    }
    assert (
        before.items() <= {path: path.stat().st_mtime_ns for path in where.glob("arms/*/model/*.safetensors")}.items()
    )

    def ids(arm: str) -> list[str]:
        return [json.loads(line)["id"] for line in (where / "arms" / arm / "data.jsonl").read_text().splitlines()]

    for series in ("vanilla", "sdft"):
        four, eight, every = (set(ids(f"{series}{n}")) for n in (".n=4", ".n=8", ""))
        assert four < eight < every
        assert (len(four), len(eight), len(every)) == (4, 8, 24)
    assert ids("vanilla.n=8") == ids("sdft.n=8")
    assert len((where / "rewrite" / "completions.jsonl").read_text().splitlines()) == 24  # one set for all
    assert len((where / "rewrite" / "refer" / "completions.jsonl").read_text().splitlines()) == 24

    assert {"parameter": "n", "series": "vanilla", "value": 8, "arm": "vanilla.n=8"} in verdict["sweeps"]
    assert {"parameter": "mix", "series": "mix", "value": 0.0, "arm": "vanilla"} in verdict["sweeps"]
    pairs = {(row["arm"], row["against"]) for row in verdict["comparisons"]}
    assert {("sdft.n=8", "vanilla.n=8"), ("mix=0.5", "vanilla"), ("sdft.template=refer", "vanilla")} <= pairs
    assert any("template" in note and "one point" in note for note in verdict["notes"])
    summary = " ".join(verdict["summary"])
    assert "Sweep of n, vanilla: " in summary
    assert "Sweep of mix: " in summary
    assert "vanilla.n=8:" not in summary  # a curve is one sentence
