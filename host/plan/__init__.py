"""The plan of a process type: which early-init steps run, in which order, and why that order can hold.

`step` is one entry of the configuration; `declared` finds the step it names and reads what it declares, without running
it; `find` gives it its options; `order` and `plan` put the steps in order; `available` says what layers and policy
leave of each need, and when; `check` holds the ordered plan against them. While the child runs them, `watch` follows;
`compare` and `at_seal` hold what was left against what was declared. `show` is what ``belljar plan`` prints.
"""
