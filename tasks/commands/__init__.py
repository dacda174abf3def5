"""The commands of the command line, a file a topic. tasks/cli.py lists them; tasks/console.py holds what they share."""
