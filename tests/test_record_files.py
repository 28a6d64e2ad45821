"""Reading records one at a time: which of them, and what their place is called."""

from __future__ import annotations

import pytest

from adiabatic_ray.corpora.record_files import count_records, read_records
from tests.record_rows import write_lines, write_parquet


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_records_are_read_by_range(tmp_path, name, monkeypatch):
    monkeypatch.setattr("adiabatic_ray.corpora.record_files.ROWS_PER_BATCH", 3)
    rows = [{"n": number} for number in range(10)]
    path = (write_parquet if name.endswith("parquet") else write_lines)(tmp_path / name, rows)
    assert count_records(path) == 10
    for start, stop in [(0, None), (0, 3), (2, 7), (3, 6), (9, 10), (10, None), (4, 4)]:
        found = list(read_records(path, start, stop))
        assert [record.content["n"] for record in found] == list(range(10))[start:stop]
        assert [record.place.rpartition(" ")[2] for record in found] == [str(n + 1) for n in range(10)[start:stop]]


def test_blank_lines_are_no_records(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 1}\n\n{"n": 2}\n\n', encoding="utf-8")
    assert count_records(path) == 2
    assert [record.place.rpartition(", ")[2] for record in read_records(path)] == ["line 1", "line 3"]
