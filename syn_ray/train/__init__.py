"""Training: the loop is plain torch and can be read, run and tested without Ray; stage.py puts Ray Train around it.

config, clip_config   what a training run is            schedule     steps from dataset size, learning rate from step
order                 which sample meets which step     augment      crops, flips, RandAugment, mixup and cutmix
loop                  the one training loop             checkpoint   resume files, and models that load in timm
classify, clip        what it is asked to train         contrast     the contrastive loss, in parts and among workers
data, image_text      the dataset as batches, by step   model, clip_model   timm's and open_clip's, and AdamW
muon                  the other optimizer
"""
