"""The daemon: watches folders for as long as it runs. Events are only hints; the folder is the truth."""
