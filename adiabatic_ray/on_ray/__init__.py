"""The cluster: actors that tune and score, Ray Tune on top of them, MLflow beside them."""
