// From a folder the search can't read pages for their first lines: browsers refuse it. It lists titles there.
if (window.location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
