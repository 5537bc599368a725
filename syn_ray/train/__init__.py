"""Training: the loop is plain torch and can be read, run and tested without Ray; stage.py puts Ray Train around it.

config    what a training run is                    schedule   steps from dataset size, learning rate from step
order     which sample meets which step and rank    augment    crops, flips, RandAugment, mixup and cutmix
loop      the one training loop                     checkpoint resume files, and models that load in timm
data      the dataset as batches, by step           model      the timm model, AdamW, moving average
"""
