"""Dashboards from the runs on disk: a static HTML site, and a W&B workspace and report as code."""

from rla_exp.dashboard.records import RunRecord, read_records
from rla_exp.dashboard.site import Site, build_site

__all__ = ["RunRecord", "Site", "build_site", "read_records"]
