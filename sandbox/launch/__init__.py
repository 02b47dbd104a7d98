"""The processes between host and child: guard, helper, zygote."""
