"""MS MARCO with BM25 negatives, row numbers into a passage file: joined into a triplet file, at full size."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.sources import TripletFile

DATA = os.environ.get("ADIABATIC_DATA")
pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not DATA, reason="ADIABATIC_DATA names no data folder")]


def _joined(folder: Path, out: Path, split: str) -> Path:
    """Queries of a split with the texts of their passages, by the code of docs/own_data.md."""
    page = (Path(__file__).resolve().parent.parent / "docs/own_data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(def joined\(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"pa": pa}
    exec(block, names)
    queries = pq.read_table(folder / "msmarco_queries.parquet", filters=[("split", "=", split)])
    queries = queries.rename_columns({"bm25_negatives": "negatives"})
    pq.write_table(names["joined"](queries, pq.read_table(folder / "msmarco_passages.parquet")), out)
    return out


@pytest.mark.parametrize(("split", "num_queries"), [("train", 11_992), ("dev_small", 6_980)])
def test_every_query_of_a_split_is_loaded(tmp_path: Path, split: str, num_queries: int) -> None:
    assert DATA is not None
    path = _joined(Path(DATA), tmp_path / "msmarco.parquet", split)
    triplets = load_triplets(TripletFile(name="msmarco-bm25", path=str(path)), "evaluation")
    table = pq.read_table(path)
    assert len(triplets.queries) == num_queries == table.num_rows
    for row in (0, num_queries // 2, num_queries - 1):
        expected = table.slice(row, 1).to_pylist()[0]
        for side in ("positive", "negative"):
            offsets, rows = getattr(triplets, f"{side}_offsets"), getattr(triplets, f"{side}_rows")
            found = [triplets.passages[place] for place in rows[offsets[row] : offsets[row + 1]]]
            assert found == expected[f"{side}s"]
    assert np.diff(triplets.negative_offsets).max() == 65
