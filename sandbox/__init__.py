"""Policy, layers, backends, zygote, probing, protection report."""
