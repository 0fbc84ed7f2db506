// Sends the form of the page on to the application. Without scripts, a person presses the button.
document.forms[0].submit();
