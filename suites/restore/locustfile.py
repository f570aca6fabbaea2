"""The light load on a rebuilt stack: users who look at companies, and sometimes register one. Run by Locust, headless, on the clients'
machine.

``COMPANIES`` in the environment: ids to ask for, separated by commas.
"""

import itertools
import os

from locust import HttpUser, constant, task

IDS = os.environ["COMPANIES"].split(",")
NUMBERS = itertools.count(1)


class Visitor(HttpUser):
    """Ten requests a second at most."""

    wait_time = constant(0.1)

    @task(8)
    def company(self):
        self.client.get(f"/api/v1/companies/{IDS[next(NUMBERS) % len(IDS)]}", name="company")

    @task(3)
    def companies(self):
        self.client.get("/api/v1/companies", name="companies")

    @task(1)
    def register(self):
        number = next(NUMBERS)
        new = {"name": f"Visitor {number}", "source": "locust", "reference": number, "registration": number}
        self.client.post("/api/v1/companies", json=new, name="register")
