"""What goes out: BTSE Pay, OSL Pay, and the one home of outgoing HTTP."""
