"""The Parquet format of every stream of labelled images: synthetic, real, or an evaluation set."""
