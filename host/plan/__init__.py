"""The plan of a process type: which early-init steps run, in which order, and why that order can hold.

`step` is one entry of the configuration; `declared` finds the step it names and reads what it declares, without running
it; `order` puts the steps in order; `available` says what layers and policy leave of each need, and when; `check` holds
the ordered plan against them; `compare` holds what the child then reports against what was declared.
"""
