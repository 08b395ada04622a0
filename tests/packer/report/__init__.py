"""Tests of packer.report."""
