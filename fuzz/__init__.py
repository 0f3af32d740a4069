"""Everything that parses what others wrote, fed with nonsense: only the documented errors may come out."""
