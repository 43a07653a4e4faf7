"""From an integer graph to steps: where tensors live, how layers are cut, what is emitted."""
