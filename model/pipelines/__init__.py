"""Any pipeline of diffusers with a transformer or a U-Net, unmodified, stepped by the engine."""
