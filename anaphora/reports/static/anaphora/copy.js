/* Copies text to the clipboard. navigator.clipboard is not available over plain HTTP. */
async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.style.position = "fixed";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/* A button of the class `copy` copies the text beside it. */
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await copyText(button.parentElement.querySelector("pre").textContent);
  button.textContent = "Copied";
});
