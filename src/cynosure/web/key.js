// Keep the API key of this tab, until it is closed. Knows nothing of what it opens.

const NAME = "cynosure-api-key";

export const keptKey = () => sessionStorage.getItem(NAME);
export const keepKey = (key) => sessionStorage.setItem(NAME, key);
export const forgetKey = () => sessionStorage.removeItem(NAME);
