"""What the tests, chaos, fuzz and bench share: real servers, machines, a proxy, an installation."""
