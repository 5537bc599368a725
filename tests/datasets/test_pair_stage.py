"""Pairs indexed on Ray: the same index for any number of tasks, of as many files as are needed."""

import pytest

from syn_ray.core.errors import UserError
from syn_ray.core.resources import PoolResources
from syn_ray.core.storage import Storage
from syn_ray.datasets.config import ParquetPairs, WebdatasetPairs
from syn_ray.datasets.pair_index import PairIndex
from syn_ray.datasets.pairs import open_pairs

pytestmark = pytest.mark.ray


def _shards(directory):
    return {name: directory.read_bytes(name) for name in directory.files() if name.startswith("file-")}


def test_one_task_at_a_time_and_three_make_the_same_index_and_it_grows(ray_cluster, tmp_path, pair_tars):
    from syn_ray.datasets.stage import index_pairs

    pairs = WebdatasetPairs(path=str(pair_tars(tmp_path / "tars", files=6, without={3, 20})), name="mine")
    index = PairIndex(pairs=pairs, study_seed=2)
    one, three = Storage(tmp_path / "one"), Storage(tmp_path / "three")
    few = index_pairs(index, 4, one, PoolResources(max_actors=1))
    assert few.result["complete"] is False
    assert len(_shards(one / index.directory_name)) == 1
    grown = index_pairs(index, 15, one, PoolResources(max_actors=1))
    assert 15 <= grown.result["rows"] < 34
    everything = index_pairs(index, None, three, PoolResources(max_actors=3))
    assert (everything.result["rows"], everything.result["skipped"]) == (34, {"no image": 2})
    shards = _shards(three / index.directory_name)
    assert len(shards) == 6
    assert _shards(one / index.directory_name).items() <= shards.items()
    captions = [open_pairs(pairs, 2, storage).caption(index) for storage in (one, three) for index in range(15)]
    assert captions[:15] == captions[15:]
    assert index_pairs(index, 10**6, three, PoolResources()) == everything


def test_a_mistake_that_a_task_finds_is_one_line(ray_cluster, tmp_path, pair_tars):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from syn_ray.datasets.stage import index_pairs

    pq.write_table(pa.table({"image": [b""], "caption": [""]}), tmp_path / "x.parquet")
    index = PairIndex(pairs=ParquetPairs(path=str(tmp_path), name="mine"), study_seed=0)
    with pytest.raises(UserError) as caught:
        index_pairs(index, 1, Storage(tmp_path / "s"), PoolResources())
    assert str(caught.value) == (
        "pairs 'mine', file 'x.parquet': there is no column 'text'; choose from caption, image"
    )
