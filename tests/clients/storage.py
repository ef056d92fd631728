"""What the other clients need to reach an object store: settings from the environment, as they take them."""

import os

PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")


def options():
    """Settings of the store the tests started; empty for a local lake."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}


def arrow(kind):
    """Arrow's own client of an S3 store (s3) or of Azure's (az)."""
    from pyarrow import fs

    if kind == "s3":
        return fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region=os.environ["AWS_REGION"])
    authority = os.environ["AZURITE_BLOB_STORAGE_URL"].removeprefix("http://")
    return fs.AzureFileSystem(
        account_name=os.environ["AZURE_STORAGE_ACCOUNT_NAME"],
        account_key=os.environ["AZURE_STORAGE_ACCOUNT_KEY"],
        blob_storage_authority=authority,
        blob_storage_scheme="http",
        dfs_storage_authority=authority,
        dfs_storage_scheme="http",
    )
