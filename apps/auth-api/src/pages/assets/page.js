// Makes the page's form answer in place. Without this file, or when anything here fails, the browser posts the form itself.

/** Milliseconds after which the browser is left to do it. */
const PATIENCE = 15_000;

const spoken = document.querySelector('[role="status"]');

document.addEventListener('submit', (event) => {
  const form = event.target;
  // The attribute, not `form.method`: only what changes something is sent from here.
  if (form.getAttribute('method') !== 'post') return;
  event.preventDefault();
  void answerInPlace(form);
});

async function answerInPlace(form) {
  const button = form.querySelector('button');
  const label = button.textContent;
  // Read first: later the button is disabled.
  const body = new URLSearchParams(new FormData(form));
  button.disabled = true;
  button.textContent = form.dataset.busy;
  spoken.textContent = form.dataset.busy;
  try {
    const answer = await fetch(location.pathname, {
      method: 'POST',
      body,
      credentials: 'omit',
      redirect: 'error',
      signal: AbortSignal.timeout(PATIENCE),
    });
    show(new DOMParser().parseFromString(await answer.text(), 'text/html'));
  } catch {
    button.disabled = false;
    button.textContent = label;
    form.submit();
  }
}

/** Puts another page's content in place of this one's, and takes those who listen along: to the heading, then the words below it. */
function show(page) {
  const next = page.querySelector('main');
  const heading = next.querySelector('h1');
  const lead = next.querySelector('.lead').textContent;
  document.documentElement.lang = page.documentElement.lang;
  document.title = page.title;
  document.querySelector('main').replaceWith(document.adoptNode(next));
  heading.focus();
  spoken.textContent = lead;
}
