"""What the site needs to build itself: figures, equations and fonts. Not part of the
package."""
