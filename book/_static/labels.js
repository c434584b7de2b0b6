/* Where a button of the theme shows words, these are its name, to be said and to be heard. */
for (const each of document.querySelectorAll(":is(button, summary)[aria-label]"))
  if (each.innerText.trim()) each.removeAttribute("aria-label");
