"""The use cases: messages, ports, the decide-append-react loop and the handlers' registry."""
