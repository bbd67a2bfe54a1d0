"""The command line: a client of engines over NATS, and the ways to run one."""
