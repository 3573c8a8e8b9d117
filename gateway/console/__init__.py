"""The console: pages for people, at /console. A client of the API in the same process, which may do what whoever is signed in may."""
