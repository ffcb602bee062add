"""The evidence: data sets, scores, intervals, tables, figures, the page."""
