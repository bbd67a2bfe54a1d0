"""Horae over NATS: requests, forwarding, work for executors elsewhere, and events out.

Subjects, streams and headers are listed in `subjects`. It needs the extra `horae[nats]`.
"""
