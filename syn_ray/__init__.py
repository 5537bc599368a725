"""syn_ray: what synthetic images are worth for training, measured on a Ray cluster.

prompts -> generate -> score -> train -> evaluate -> fit -> report, joined by study.

core, shards, datasets     errors, configuration, storage; the Parquet format; real images and class names
prompts, generate          what is asked of a text-to-image model; its images, reproducible sample by sample
score, train, evaluate     recognizability and diversity; ViT training; losses on real images
fit, report                scaling laws with intervals; the page that answers the question
study, studies, embedded   one run of it all; built-in studies; the offline world they run in
"""

__version__ = "0.1.0"
