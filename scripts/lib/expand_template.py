"""Prints what template.yaml becomes in CloudFormation, as JSON: linters see more in it than in what was written.

Nothing is sent anywhere. Code that is not uploaded yet stands for itself at an address that leads nowhere.
"""

import json
import logging
import os
import sys

os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class NoManagedPolicies:
    """Roles name their permissions one by one, so nobody has to ask AWS for its lists."""

    def load(self):
        return {}


logging.disable(logging.WARNING)
with open(sys.argv[1], encoding="utf-8") as file:
    template = yaml_parse(file.read())
for resource in template["Resources"].values():
    properties = resource.get("Properties", {})
    if resource["Type"] == "AWS::Serverless::Function":
        properties["CodeUri"] = "s3://bucket/" + properties["CodeUri"]
json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout, indent=2)
