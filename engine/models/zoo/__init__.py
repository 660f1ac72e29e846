"""torchvision's models: what there is, how one is built for the data, and where its pretrained weights come from."""
