"""The daemon: a folder that is watched for a year. Events are hints; the folder is the truth."""
