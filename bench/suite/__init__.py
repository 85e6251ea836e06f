"""The benchmark suite behind `./dev bench`: see bench/README.md."""
