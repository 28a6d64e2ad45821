"""Which code is run: the project's own, a sweep file, and what an import path names. Never a checkpoint's.

The first part reads the project's source, so that a new place that unpickles or runs what it reads fails here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.encoders.export import write_towers
from adiabatic_ray.encoders.tower_sources import read_tower
from adiabatic_ray.spec import BackboneSpec
from tests.tiny import save_tiny_bert, tiny_spec

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ("adiabatic_ray", "analysis", "jobs") for path in sorted((ROOT / folder).rglob("*.py"))]
UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "input"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package"),
    *("pd.read_pickle", "pandas.read_pickle", "np.fromregex", "numpy.load"),
    *("yaml.load", "yaml.unsafe_load", "os.system", "os.popen", "subprocess.call", "subprocess.getoutput"),
}
FORBIDDEN_METHODS = {"restore", "load_model", "read_pickle", "load_dataset", "can_restore", "load_checkpoint"}
"""Whatever they are called on: Ray Tune's restore unpickles, MLflow's models are pickles, `datasets` ran scripts."""
IMPORTING = {
    "adiabatic_ray/tuning/own_code.py": {"importlib.import_module"},  # package.module:callable
    "jobs/sweep_files.py": {"found.loader.exec_module"},  # a sweep file
}
"""The two places that run a user's code, which is trusted."""


def dangers(path: str, source: str) -> Iterator[str]:
    """Calls and imports of a file that could run what is read."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(node.module or "").partition(".")[0]]
        yield from (f"{path}:{node.lineno} imports {name}" for name in names if name in UNPICKLING)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        place = f"{path}:{node.lineno} calls {called}"
        last = called.rpartition(".")[2]
        if called in FORBIDDEN or ("." in called and last in FORBIDDEN_METHODS):
            yield place
        if last in {"import_module", "exec_module", "load_module"} and called not in IMPORTING.get(path, set()):
            yield place
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if called == "np.load" and given.get("allow_pickle") != "False":
            yield f"{place} without allow_pickle=False"
        if last == "from_pretrained" and not {("trust_remote_code", "False"), ("use_safetensors", "True")} & set(
            given.items()
        ):
            yield f"{place} without trust_remote_code=False or use_safetensors=True"
        if given.get("trust_remote_code", "False") != "False" or given.get("shell", "False") != "False":
            yield f"{place} with {given}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_unpickles_or_runs_what_it_reads(path: Path) -> None:
    assert list(dangers(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "Tuner.restore(path, trainable)",
        "mlflow.pyfunc.load_model(uri)",
        "datasets.load_dataset(name)",
        "AutoModel.from_pretrained(x)",
        "AutoModel.from_pretrained(x, use_safetensors=True, trust_remote_code=True)",
        "AutoConfig.from_pretrained(x, trust_remote_code=spec.trust)",
        "importlib.import_module(name)",
        "subprocess.run(text, shell=True)",
        "yaml.load(text)",
        "eval(text)",
        "pd.read_pickle(path)",
    ],
)
def test_a_planted_danger_is_found(source: str) -> None:
    assert list(dangers("jobs/cli.py", source))


def test_there_is_no_setting_that_lets_a_checkpoints_code_run(tmp_path: Path) -> None:
    assert not [name for name in BackboneSpec.model_fields if "trust" in name]
    with pytest.raises(ValidationError, match="trust_remote_code"):
        BackboneSpec.model_validate({"name": "x", "trust_remote_code": True})


@pytest.fixture
def with_code(tmp_path: Path) -> Path:
    """A checkpoint of a known type that says its classes are in its own files."""
    folder = save_tiny_bert(tmp_path / "encoder")
    own = (
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OwnConfig: pass\nclass OwnModel: pass\nclass OwnTokenizer: pass\n"
    )
    (folder / "own.py").write_text(own)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoTokenizer": ["own.OwnTokenizer", None]}
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    return folder


def test_a_known_type_with_code_beside_it_is_read_without_the_code(with_code: Path, tmp_path: Path) -> None:
    assert load_backbone(tiny_spec(with_code)).config["model_type"] == "bert"
    assert not (tmp_path / "ran").exists()


def test_neither_evaluate_nor_export_runs_or_passes_on_a_checkpoints_code(with_code: Path, tmp_path: Path) -> None:
    base = load_backbone(tiny_spec(with_code))
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    for path in with_code.iterdir():
        (tuned / path.name).write_bytes(path.read_bytes())
    name = "encoder.layer.0.output.dense.weight"
    tensors = load_file(tuned / "model.safetensors")
    save_file(
        tensors | {name: tensors[name] + np.float32(0.01)}, tuned / "model.safetensors", metadata={"format": "pt"}
    )
    changed = read_tower(str(tuned), base, ("river",)).changed
    assert changed.keys() == {name}
    (tmp_path / "exported").mkdir()
    write_towers(tmp_path / "exported", base, changed)
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "exported").rglob("*.py"))
    written = [path.read_text(encoding="utf-8") for path in (tmp_path / "exported").rglob("*.json")]
    assert written and not [text for text in written if "auto_map" in text or "own.Own" in text]


def test_modules_and_shards_stay_inside_their_folder(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path / "encoder")
    base = load_backbone(tiny_spec(folder))
    for path in ("../encoder", "/tmp", "a/../../b"):
        modules = [{"type": "sentence_transformers.models.Transformer", "path": path}]
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ValueError, match="must name folders below its own"):
            read_tower(str(folder), base, ("river",))
    (folder / "modules.json").unlink()
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    for name in ("../model.safetensors", str(tmp_path / "model.safetensors")):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match="must name files of its own folder"):
            load_backbone(tiny_spec(folder))
