/* Where a button of the theme shows words, these are its name, to be said and to be heard. */
for (const each of document.querySelectorAll(":is(button, summary)[aria-label]"))
  if (each.innerText.trim()) each.removeAttribute("aria-label");

/* What unfolds a part of the contents is a picture only; its name is that of the page above. */
for (const each of document.querySelectorAll("nav summary:not([aria-label])"))
  each.ariaLabel = `Pages of ${each.closest("li").querySelector("a").textContent.trim()}`;

/* A list of works is no list of items. */
for (const each of document.querySelectorAll(".citation-list")) each.role = "doc-bibliography";
