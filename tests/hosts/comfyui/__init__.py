"""The node pack in a real ComfyUI."""
