"""A Django project with Channels, for the tests of workers: its consumers write down what they handle."""
