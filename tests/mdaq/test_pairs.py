"""Raw and revised responses become one pool."""

import numpy as np
import pandas as pd
from datasets import Dataset

from hf_mlalign import MDaQSelector
from hf_mlalign.data.layouts import has_revisions, pool_revisions
from hf_mlalign.mdaq.curation import revised_share

DATA = {
    "id": [0, 1, 2],
    "language": ["de", "de", "sw"],
    "raw_instruction": ["i0", "i1", "i2"],
    "raw_input": ["", "x", ""],
    "raw_response": ["a", "b", "c"],
    "revised_instruction": ["j0", "j1", "j2"],
    "revised_input": ["", "x", ""],
    "revised_response": ["A", "b", "C"],
}


def test_pool_by_hand():
    ds = Dataset.from_dict(DATA)
    assert has_revisions(ds.column_names)
    assert not has_revisions(["instruction", "output"])
    pool = pool_revisions(ds)
    assert set(pool.column_names) == {"id", "language", "instruction", "input", "response", "revision"}
    assert pool["response"][:] == ["a", "b", "c", "A", "C"]
    assert pool["instruction"][:] == ["i0", "i1", "i2", "i0", "i2"]
    assert pool["revision"][:] == ["raw"] * 3 + ["revised"] * 2


def test_share_by_hand():
    pool = pool_revisions(Dataset.from_dict(DATA))
    selector = MDaQSelector(1, 0, method="quality")
    result = selector.select_from(
        np.array([0.1, 0.2, 0.3, 0.9, 0.1], np.float32), np.array(["de", "de", "sw", "de", "sw"])
    )
    expected = pd.DataFrame({"language": ["all", "de", "sw"], "pool": [0.4, 1 / 3, 0.5], "selected": [0.5, 1.0, 0.0]})
    result.reasons[:] = ["", "", "quality", "quality", ""]
    pd.testing.assert_frame_equal(revised_share(pool, result), expected)
