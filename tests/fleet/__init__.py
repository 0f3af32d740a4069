"""Several machines on one: namespaces with a network of their own, and what runs on them."""
