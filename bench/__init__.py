"""Measurements that take too long for tests, or a machine that few have. Each writes a report."""
