"""Makes the images of a source, shard by shard, the same everywhere."""
