"""torchvision's datasets: what is known of each, what its class tells, how it is fetched and read."""
