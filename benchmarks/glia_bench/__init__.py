"""Latency, throughput, parity and peers."""
