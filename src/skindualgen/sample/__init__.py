"""The pipeline: denoising, guidance, kept regions, and reading masks of photographs."""
