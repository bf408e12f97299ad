"""Workflows for build servers: one job per target that optimises, checks the budget and compares."""

from edgewright.project.ci.files import Written, repository_of, write_workflow
from edgewright.project.ci.plan import Job, Settings, plan_jobs
from edgewright.project.ci.render import SERVERS, render

__all__ = ["SERVERS", "Job", "Settings", "Written", "plan_jobs", "render", "repository_of", "write_workflow"]
