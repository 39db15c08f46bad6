"""`make demo` starts the whole product with sample reports on one machine. No other package imports this one."""
